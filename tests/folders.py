"""The folders of jobs as a service of these settings finds them."""

from backends.registry import Registry
from common.backend import BackendContext
from common.clock import Clock
from common.devices import DevicePool
from common.settings import Settings
from service.folders import Folders
from service.store.base import Store


def folders(store: Store, settings: Settings) -> Folders:
    return Folders(store, Registry(BackendContext(settings=settings, clock=Clock(), devices=DevicePool())))
