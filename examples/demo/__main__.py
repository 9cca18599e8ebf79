"""`make demo`: from two JSON documents to a trained adapter, live, on this machine's CPU."""

import argparse
import asyncio
import json
import signal
import sys
import time
from pathlib import Path

import corpus
import further
import tiny_model
from documents import FULL, QUICK, Place
from jobs import Trained, end_jobs, train
from processes import DemoError, run_program, serving
from receiver import Receiver, receiving
from screen import Screen

from trainyard.client import CallError, Client

_HERE = Path(__file__).resolve().parent
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 20.0
_HANDBOOK_PROMPT = "Q: What is a checkpoint?\nA:"
_INSTRUCT_PROMPT = "Q: What is JSONL?\nA:"


async def demo(place: Place, screen: Screen) -> None:
    """The whole of it. Raises `DemoError` or `CallError` where it can't go on."""
    data = place.folder / "server"
    model = await _model(place.folder, screen)
    rows = place.folder / "handbook.jsonl"
    corpus.write_handbook(rows)
    async with receiving(screen.webhook) as receiver, serving(data, place.folder / "server.log") as url:
        screen.say(f"server at {url}, ready; webhooks are received at {receiver.url}")
        async with Client(url, patience=_PATIENCE, notice=screen.say) as client:
            try:
                base, adapter = await _two_jobs(place, screen, client, receiver, model, rows)
            finally:
                await end_jobs(client, screen, place.label)
    further.show(screen, place, data, base, adapter)


async def _two_jobs(
    place: Place, screen: Screen, client: Client, receiver: Receiver, model: Path, rows: Path
) -> tuple[Trained, Trained]:
    document = place.handbook(model, rows, receiver)
    base = await train(client, screen, receiver, document, "full training on the handbook")
    before, after = await _samples((str(model), None), (base.final, None), prompt=_HANDBOOK_PROMPT)
    _compare(screen, base, _HANDBOOK_PROMPT, before, after)
    document = place.instruct(Path(base.final), receiver)
    adapter = await train(client, screen, receiver, document, "a LoRA adapter on top of it, on questions and answers")
    before, after = await _samples((base.final, None), (base.final, adapter.final), prompt=_INSTRUCT_PROMPT)
    _compare(screen, adapter, _INSTRUCT_PROMPT, before, after)
    return base, adapter


async def _model(folder: Path, screen: Screen) -> Path:
    """The tiny model, made on the first run and kept."""
    model = tiny_model.place(folder)
    if not model.is_dir():
        screen.say("making a tiny Llama with random weights, and a tokenizer trained on the handbook …")
        await run_program(_HERE / "tiny_model.py", str(model))
    return model


async def _samples(*models: tuple[str, str | None], prompt: str) -> list[str]:
    asks = [{"model": model, "adapter": adapter, "prompt": prompt} for model, adapter in models]
    texts = json.loads(await run_program(_HERE / "samples.py", given=json.dumps(asks).encode()))
    return [" ".join(text.split()) for text in texts]


def _compare(screen: Screen, job: Trained, prompt: str, before: str, after: str) -> None:
    screen.compare("held-out loss", f"{job.loss_before:.3f}", f"{job.loss_after:.3f}")
    screen.compare(" ".join(prompt.split()), before, after)


async def _until_signalled(place: Place, screen: Screen) -> int:
    """The demo, or its end at the first signal; what runs is ended in either case."""
    work = asyncio.ensure_future(demo(place, screen))
    caught: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if not caught:
            screen.say(f"{number.name}: ending what runs …")
            work.cancel()
        caught.append(number)

    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await work
    except asyncio.CancelledError:
        screen.say("nothing runs any more")
        return 128 + caught[0]
    except (DemoError, CallError) as e:
        screen.say(f"the demo failed: {e}")
        return 1
    screen.say(f"\ndone in {screen.seconds:.0f} s")
    return 0


def main() -> int:
    """Run the demo; its exit status: 0, 1 where something failed, 128 + the signal that ended it."""
    parser = argparse.ArgumentParser(prog="examples/demo", description="Two real training jobs through the HTTP API.")
    parser.add_argument("--quick", action="store_true", help="a few steps only: shows the way, not the result")
    parser.add_argument("--folder", type=Path, default=corpus.CHECKOUT / "demo", help="where all of it is kept (demo/)")
    args = parser.parse_args()
    folder = args.folder.expanduser().absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, time.strftime("%Y%m%d-%H%M%S"), QUICK if args.quick else FULL)
    return asyncio.run(_until_signalled(place, Screen()))


if __name__ == "__main__":
    sys.exit(main())
