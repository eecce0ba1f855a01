"""Every setting: its source and its allowed values.

In order of weight: `CHOREO_*` environment variables, then `[tool.choreo]` in the pyproject.toml of the current folder,
then the defaults here. Reads nothing at import; chooses no adapter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError as UnreadableSetting

from choreo.core.errors import SettingsError
from choreo.core.wording import did_you_mean, fault_text
from choreo.redaction import redact


def _listed(value: object) -> object:
    """Return a list from its form in an environment variable: separated by commas."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _expanded(path: Path) -> Path:
    """Return the path with `~` expanded to the home folder: no shell has done it for a settings file."""
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from error


HomePath = Annotated[Path, AfterValidator(_expanded)]


class Settings(BaseSettings):
    """The settings of one process. Durations end in `_s` and are seconds."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_prefix="CHOREO_",
        pyproject_toml_table_header=("tool", "choreo"),
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    flows: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """`module:name` of each Flow, e.g. `services.order_flow:order`; in the environment separated by commas.

    None: every Flow of `flow.py` in the current folder.
    """
    demo: str = ""
    """`module:name` of the demo object of `choreo demo`, or of a tuple of them; services/demo.py has two."""
    database: HomePath = Path(".choreo/choreo.db")
    """The SQLite file of the embedded backend."""
    kafka: str = Field(default="", repr=False)
    """`host:port` of Kafka's brokers; empty: the embedded backend. librdkafka's own settings are CHOREO_KAFKA_*."""
    redis: str = Field(default="", repr=False)
    """URL of the Redis that keeps inbox and read model beside a log on Kafka, or of the sentinels that know it."""
    postgres: str = Field(default="", repr=False)
    """URL of the PostgreSQL database that keeps them in place of Redis."""
    data: HomePath = Path(".choreo/tracker")
    """Folder of the tracker's local copies on Kafka; they are restored where they are missing."""
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL survives a power cut; NORMAL survives kill -9 only, and is faster."""
    schemas: HomePath = Path("schemas")
    """Folder of the frozen `.avsc` files."""
    topics: HomePath = Path("topics")
    """Folder of the `.yaml` files of the topics."""
    partitions: int = Field(default=8, ge=1, le=4_000)
    """Partitions of a topic that `topics/` does not describe."""
    host: str = "127.0.0.1"
    """Address on which the REST view listens."""
    allow_remote: bool = False
    """Lets `host` be an address that other machines reach although no access control is set: only permitted clients
    must be able to reach it, as behind a proxy that authenticates them."""
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)] = ()
    """Names the REST view is called by, beside `localhost`, `host` and addresses; `*.example.org`: all below it."""
    api_keys: HomePath | None = None
    """File of the REST view's API keys, made by `choreo keys create`; with it every request needs a key or a token."""
    oidc_issuer: str = ""
    """Issuer of OpenID Connect tokens, exactly as in their `iss`; with it every request needs a key or a token."""
    oidc_audience: str = ""
    """Audience that a token must name."""
    oidc_jwks: str = ""
    """Public keys of the issuer: an https URL, or the path of a file."""
    oidc_roles: dict[str, str] = {}
    """Role of each value of the roles' claim: `{"ops": "operator", "shop": "viewer:order,trip"}`."""
    oidc_roles_claim: str = "roles"
    """Claim with the caller's roles or groups; a dot leads into an object: `realm_access.roles`."""
    oidc_name_claim: str = "sub"
    """Claim with the name that an operator's fact shows: `email`, `preferred_username`."""
    open_metrics: bool = False
    """Whether /metrics of the REST view needs no key; without it a viewer of every flow may read it."""
    rate_limit: float = Field(default=100, ge=0, le=1_000_000)
    """Requests a second of one key or token's subject, twice as many at once; 0: no limit."""
    port: int = Field(default=8080, ge=0, le=65_535)
    """Port of the REST view; 0: any that is free."""
    health_port: int = Field(default=0, ge=0, le=65_535)
    """Port of /livez, /readyz and /metrics, on every address, in a process without the REST view; 0: none."""
    time_scale: float = Field(default=1, ge=0.001, le=1e9)
    """Divides every declared duration, the same in every process; never the clock."""
    lease_s: float = Field(default=3, ge=0.2, le=86_400)
    """How long a process that no longer answers keeps its partitions: shorter takes over faster, and renews more."""
    build: str = Field(default="", pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    """Name of this deployment: runs that it starts are worked on by its services alone; empty: by those without one."""
    concurrency: int = Field(default=64, ge=1, le=10_000)
    """Handlers of one step that run at once."""
    stop_s: float = Field(default=10, ge=0, le=86_400)
    """How long a stop waits for handlers that run."""
    tracebacks: bool = True
    """Whether a failure in the log has the exception, its causes and its lines of code (4 KB at most)."""
    log: Literal["text", "json"] = "text"
    """Form of the lines on stderr: `json` has one object a line, with flow, run, step, key, attempt and trace id."""
    log_keys: bool = True
    """Whether log lines and spans name the keys of instances; false masks them, where a key is a person's data."""
    otlp: str = Field(default="", repr=False)
    """URL of an OpenTelemetry collector (OTLP over HTTP, port 4318): traces and metrics go there; empty: nowhere."""
    trace_ratio: float = Field(default=1, ge=0, le=1)
    """Share of the runs that are traced, each with all its segments; the same in every process."""
    trace_gap_s: float = Field(default=900, ge=1, le=86_400 * 365)
    """After a wait of so many seconds a run's next spans begin a new trace, linked to the one before."""
    check: dict[str, Any] = {}
    """Table of `choreo check`: `ignore` lists warnings that are accepted, each with code, where and reason."""

    @property
    def has_access_control(self) -> bool:
        """Return whether every request to the REST view needs a key or a token."""
        return self.api_keys is not None or bool(self.oidc_issuer)

    @classmethod
    def settings_customise_sources(  # noqa: D102 - pydantic-settings' hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not a source of ours
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not a source of ours
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, PyprojectTomlConfigSettingsSource(settings_cls)


def load(**values: object) -> Settings:
    """Return the settings of this process; raises SettingsError with the setting, its value and the remedy."""
    try:
        settings = Settings(**values)  # type: ignore[arg-type]
        redact.learn({name: getattr(settings, name) for name in ("redis", "postgres", "kafka", "otlp")})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        kind = first["type"]
        known = Settings.model_fields
        remedy = (
            f"{did_you_mean(first['loc'][-1], known)}Known settings: {', '.join(known)}."
            if kind == "extra_forbidden"
            else f"Set CHOREO_{name.upper()}, or `{name}` under [tool.choreo] in pyproject.toml."
        )
        redact.learn({name: first["input"]})
        raise SettingsError(
            redact(f"{fault_text(first)}, got {first['input']!r}"), where=f"setting {name}", remedy=remedy
        ) from error
    except (UnreadableSetting, ValueError, RecursionError, OSError, AttributeError) as error:
        raise SettingsError(
            redact(str(error)),
            where="pyproject.toml or environment",
            remedy="Correct [tool.choreo] or the CHOREO_* variable.",
        ) from error
    return settings
