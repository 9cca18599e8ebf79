"""What a run sees of the service's environment."""

import pytest

from common.environment import clean_environment


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "PATH", "HF_HOME", "CUDA_HOME", "https_proxy", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3"),
        *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"),
        *("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"),
    ],
)
def test_places_files_and_roles_are_seen(name: str) -> None:
    assert clean_environment({name: "x"})[name] == "x"


@pytest.mark.parametrize(
    "name",
    [
        *("TRAINYARD_TOKEN", "DATABASE_URL", "MY_SECRET"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"),
        *("AZURE_CLIENT_SECRET", "AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_KEY"),
        *("GOOGLE_API_KEY", "GOOGLE_SERVICE_ACCOUNT_KEY"),
    ],
)
def test_secrets_and_what_is_nobodys_business_are_not(name: str) -> None:
    assert set(clean_environment({name: "x"})) == {"PYTHONUNBUFFERED"}
