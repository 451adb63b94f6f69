"""Settings of the application's processes, read from NENGHAO_* variables; secrets may come from files."""

from functools import cache
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain import webhook


class Settings(BaseSettings):
    """One frozen, validated set per process; `/run/secrets` may hold one file per secret."""

    model_config = SettingsConfigDict(env_prefix="NENGHAO_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="postgresql://user:password@host:port/database")
    broker_host: str = "127.0.0.1"
    broker_port: int = 1883
    broker_ca_file: Path | None = Field(None, description="certificate authority of the broker; turns TLS on")
    broker_admin_user: str = Field("admin", description="dynamic security administrator; creates gateway accounts")
    broker_admin_password: SecretStr = SecretStr("")
    public_url: str = Field("http://127.0.0.1:8000", description="how officials reach the pages; links in notices")
    worker_metrics_port: int = Field(0, description="Prometheus port of the worker; 0 turns it off")
    worker_idle_s: float = Field(0.5, gt=0, description="pause when no stage had work")
    webhook_timeout_s: float = Field(15.0, gt=0, le=30)
    webhook_allowed_networks: str = Field(
        "",
        description="comma-separated CIDRs of private networks that webhooks may reach; empty: public only",
    )
    recalled_levels_open_violations: bool = Field(
        False, description="let a level without a confirmed source open a violation"
    )
    log_format: str = Field("text", pattern="^(text|json)$")

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks(cls, text: str) -> str:
        """A mistyped network is seen at the start, not when the first notice cannot be sent."""
        webhook.parse_networks(text)
        return text


@cache
def load() -> Settings:
    """Return the settings of this process; a missing or malformed variable raises pydantic's ValidationError."""
    secrets_dir = Path("/run/secrets")
    return Settings(_secrets_dir=secrets_dir if secrets_dir.is_dir() else None)  # type: ignore[call-arg]
