"""Settings of the ingest process, read from NENGHAO_* variables; secrets may come from files."""

from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One frozen, validated set per process. `/run/secrets` may hold one file per secret."""

    model_config = SettingsConfigDict(env_prefix="NENGHAO_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database")
    broker_host: str = "127.0.0.1"
    broker_port: int = 1883
    broker_ca_file: Path | None = Field(None, description="certificate authority of the broker; turns TLS on")
    ingest_user: str = "nenghao-ingest"
    ingest_password: SecretStr = SecretStr("")
    ingest_client: str = Field(
        "1", pattern="^[A-Za-z0-9-]{1,32}$", description="unique and stable per process: names its broker sessions"
    )
    ingest_metrics_port: int = Field(0, ge=0, le=65535, description="Prometheus port; 0 turns it off")
    # A batch is a third of what the broker may have under way, so that the rest travels while it is committed (tried:
    # half of it stores 15 % less; a quarter no more). All of it at the largest packet, 256 KiB, stays within 64 MiB, so
    # that the whole process stays within 150 MiB whatever is sent while the database is away.
    ingest_live_receive_maximum: int = Field(192, ge=1, le=65535)
    ingest_backfill_receive_maximum: int = Field(64, ge=1, le=65535)
    ingest_batch_messages: int = Field(64, ge=1)
    ingest_batch_bytes: int = Field(512 * 1024, ge=1, description="bounds how long a backfill batch delays a live one")
    ingest_batch_age_s: float = Field(0.02, gt=0, le=10)
    log_format: str = Field("text", pattern="^(text|json)$")


@cache
def load() -> Settings:
    """Return the settings of this process; a missing or malformed variable raises pydantic's ValidationError."""
    secrets_dir = Path("/run/secrets")
    return Settings(_secrets_dir=secrets_dir if secrets_dir.is_dir() else None)  # type: ignore[call-arg]
