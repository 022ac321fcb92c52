"""Deployment facts, all from the environment; nothing set means all embedded.

What operators tune while it runs (thresholds, chains, templates) is in the database, not here.
"""

import secrets
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from controlplane import env, private
from controlplane.embedded_redis import socket_path
from controlplane.logs import FORMATS, LEVELS, configure_structlog, logging_config
from controlplane.redis_options import MODES, RedisServers, caches, channel_layers

BASE_DIR = Path(__file__).resolve().parent.parent


def read_secret_key(var_dir: Path) -> str:
    """Return the key kept in VAR_DIR beside the embedded database, made on the first start.

    With a database of its own it must be given: each pod would make another, and sign out
    whoever the next pod signed in.
    """
    if env.text("DATABASE_URL"):
        raise ImproperlyConfigured(
            "DATABASE_URL is set but SECRET_KEY is not; expected 50 random characters, "
            "the same for every process"
        )
    path = var_dir / "secret_key"
    try:
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(48), encoding="ascii")
        key = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"{path} cannot be made or read ({error.strerror}): make room, or set SECRET_KEY"
        ) from error
    if not key:
        raise ImproperlyConfigured(f"{path} is empty: remove it, so that another key is made")
    return key


def read_database(var_dir: Path) -> dict[str, Any]:
    """Return the database's settings: DATABASE_URL, or SQLite in VAR_DIR."""
    database: dict[str, Any] = environ.FileAwareEnv.db_url_config(
        env.text("DATABASE_URL") or f"sqlite:///{var_dir / 'db.sqlite3'}"
    )
    options = database.setdefault("OPTIONS", {})
    if database["ENGINE"].endswith("sqlite3"):
        # Without IMMEDIATE one in eight read-then-write transactions fails as "locked".
        options["transaction_mode"] = "IMMEDIATE"
        options["timeout"] = 20
        options["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;"
    else:
        # Under ASGI a pool is the only reuse that works; it forbids CONN_MAX_AGE.
        pool_max = env.number("DATABASE_POOL_MAX", 8, lowest=1, highest=100)
        options["pool"] = {"min_size": 1, "max_size": pool_max, "timeout": 5}
        options.setdefault("connect_timeout", 3)
    return database


def read_redis(var_dir: Path) -> RedisServers:
    """Return where Redis is: REDIS_URL, or the embedded server's socket in VAR_DIR."""
    servers = RedisServers(
        url=env.text(
            "REDIS_URL",
            f"unix://{quote(str(socket_path(var_dir)))}",
            pattern=r"(rediss?|unix)://\S+",
            like="redis://host:6379/0, rediss://… or unix:///run/redis.sock",
        ),
        mode=env.choice("REDIS_MODE", "single", MODES),
        sentinels=tuple(env.addresses("REDIS_SENTINELS")),
        sentinel_password=env.text("REDIS_SENTINEL_PASSWORD"),
    )
    if servers.mode != "single" and not env.text("REDIS_URL"):
        raise ImproperlyConfigured(f"REDIS_MODE={servers.mode} needs REDIS_URL")
    if (servers.mode == "sentinel") != bool(servers.sentinels):
        raise ImproperlyConfigured(
            "Sentinel takes both REDIS_MODE=sentinel and REDIS_SENTINELS=host:port,host:port"
        )
    return servers


def static_headers(headers: MutableMapping[str, str], _path: str, _url: str) -> None:
    """Say of a static file what SecurityMiddleware, which never sees it, says of a page."""
    headers["X-Content-Type-Options"] = "nosniff"


# --- where things are

private.by_default()
VAR_DIR = Path(env.text("VAR_DIR", str(BASE_DIR / "var"))).expanduser().resolve()
PORT = env.number("PORT", 8000, lowest=1, highest=65535)
PUBLIC_URL = env.text("PUBLIC_URL", pattern=r"https?://[^\s/]+", like="https://stt.example.com")
FALLBACK_NAMESPACE = env.text(
    "FALLBACK_NAMESPACE", "default", pattern=r"[A-Za-z0-9_.-]{1,64}", like="production"
)
# The proxies whose X-Forwarded-For and -Proto are believed; nobody's, unless said.
FORWARDED_ALLOW_IPS = env.networks("FORWARDED_ALLOW_IPS")
HISTORY_DAYS = env.number("HISTORY_DAYS", 180, lowest=1, highest=3650)
PAST_DAYS = env.number("PAST_DAYS", 30, lowest=1, highest=365)
CHANGES_NEED_APPROVAL = env.flag("CHANGES_NEED_APPROVAL", default=False)
PROPOSAL_HOURS = env.number("PROPOSAL_HOURS", 72, lowest=1, highest=720)
EMBEDDED_REDIS = not env.text("REDIS_URL")
if EMBEDDED_REDIS or not (env.text("DATABASE_URL") and env.text("SECRET_KEY")):
    private.var_dir(VAR_DIR)
if EMBEDDED_REDIS:  # made by whoever comes first, for then nobody else can: clients join it too
    private.directory(socket_path(VAR_DIR).parent)
EMBEDDED_REDIS_BIN = env.text("EMBEDDED_REDIS_BIN")

REDIS = read_redis(VAR_DIR)
REDIS_URL = REDIS.url
CACHES = caches(REDIS)
CHANNEL_LAYERS = channel_layers(REDIS, FALLBACK_NAMESPACE)

DATABASES = {"default": read_database(VAR_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SLACK_BOT_TOKEN = env.text("SLACK_BOT_TOKEN")
SLACK_SIGNING_SECRET = env.text("SLACK_SIGNING_SECRET")
SLACK_APP_TOKEN = env.text("SLACK_APP_TOKEN")
SLACK_API_URL = env.text(
    "SLACK_API_URL",
    "https://slack.com/api/",
    pattern=r"https?://\S+",
    like="https://slack.com/api/",
)
SLACK_CHANNEL = env.text("SLACK_CHANNEL")
SLACK_TEAM_ID = env.text("SLACK_TEAM_ID", pattern=r"[TE][A-Z0-9]{1,20}", like="T0123ABC")

# --- security

DEBUG = env.flag("DEBUG", default=False)
SECRET_KEY = env.text("SECRET_KEY") or read_secret_key(VAR_DIR)
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS", default=[])
ALLOWED_HOSTS = env.words(
    "ALLOWED_HOSTS",
    default=[
        "localhost",
        "127.0.0.1",
        "[::1]",
        *filter(None, [urlsplit(PUBLIC_URL).hostname]),
    ],
)
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL] if PUBLIC_URL else []

CSRF_FAILURE_VIEW = "controlplane.refusals.csrf"

# Cookies travel over TLS only, unless this deployment says that it is plain HTTP, as `up` does.
SECURE_COOKIES = not DEBUG and not PUBLIC_URL.startswith("http://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_HSTS_SECONDS = 31_536_000 if PUBLIC_URL.startswith("https://") else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
    },
}
SILENCED_SYSTEM_CHECKS = [
    "security.W005",  # other subdomains are not ours to promise TLS for
    "security.W008",  # whoever ends TLS redirects; agents inside the cluster may use plain HTTP
    "security.W021",  # preloading binds the whole domain, for years
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{validator}", "OPTIONS": options}
    for validator, options in {
        "MinimumLengthValidator": {"min_length": 10},
        "UserAttributeSimilarityValidator": {},
        "NumericPasswordValidator": {},
        "CommonPasswordValidator": {},
    }.items()
]
LOGIN_URL = "admin:login"
SECOND_FACTOR = env.choice("SECOND_FACTOR", "optional", ("off", "optional", "owners", "required"))
OTP_TOTP_ISSUER = "STT control plane"
SESSION_COOKIE_AGE = 3_600 * env.number("SESSION_IDLE_HOURS", 12, lowest=1, highest=336)
SESSION_DAYS = env.number("SESSION_DAYS", 7, lowest=1, highest=90)
LOGIN_REDIRECT_URL = "admin:index"  # where a sign-in ends whose `next` leads nowhere

# --- Django

INSTALLED_APPS = [
    "controlplane.apps.SiteConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "adminsortable2",
    "channels",
    "csp",
    "django_otp",
    "django_otp.plugins.otp_static",
    "django_otp.plugins.otp_totp",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "rest_framework",
    "servestatic",
    "simple_history",
    "fallback",
]

# The asynchronous ones first: controlplane/handler.py enters a thread once, for all the others.
MIDDLEWARE = [
    "controlplane.answers.middleware",  # outermost: what every answer carries
    "fallback.health.health",  # early: probes come by address, which ALLOWED_HOSTS would refuse
    "servestatic.middleware.ServeStaticMiddleware",
    "fallback.api.problems.problem_middleware",  # gives the errors of all the others its shape
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "fallback.sessions.sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "fallback.sign_in.entering.second_factor",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]

ROOT_URLCONF = "controlplane.urls"
ASGI_APPLICATION = "controlplane.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

LANGUAGE_CODE = "en"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# Its own way back would leave the rows within a row behind; fallback/changes has one that works.
SIMPLE_HISTORY_REVERT_DISABLED = True

# Served from where the packages keep them, read once at start: no collectstatic to forget.
STATIC_URL = "static/"
SERVESTATIC_USE_FINDERS = True
SERVESTATIC_ALLOW_ALL_ORIGINS = False
SERVESTATIC_ADD_HEADERS_FUNCTION = static_headers

# --- API

REST_FRAMEWORK = {
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "fallback.api.problems.respond",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
# What the calls of one API key may take of Redis through this process.
CALL_MEMORY_MB = env.number("CALL_MEMORY_MB", 256, lowest=1, highest=1_000_000)
# Requests a second, and at once, in this process: for one API key; for an address without one.
API_THROTTLE = {"caller": (600, 1200), "stranger": (5, 50)}
METRICS_TOKEN = env.text("METRICS_TOKEN")
METRICS_OPEN = env.flag("METRICS_OPEN", default=False)

SPECTACULAR_SETTINGS = {
    "TITLE": "STT control plane",
    "DESCRIPTION": (
        "Which speech provider each call of a fleet of voice agents should use, and what agents"
        " saw of them. Every error is a problem document (RFC 9457)."
    ),
    "VERSION": "1",
    "CONTACT": {"name": "Whoever runs this server"},
    "LICENSE": {"name": "MIT", "identifier": "MIT"},
    "SERVERS": [{"url": "/", "description": "The server that this was read from."}],
    "TAGS": [
        {"name": "decisions", "description": "Which provider a call should use."},
        {"name": "outcomes", "description": "What agents saw of providers."},
        {"name": "status", "description": "Everything as it is now."},
        {"name": "providers", "description": "One breaker, and operators' orders to it."},
        {"name": "calls", "description": "Why a call got what it got."},
        {"name": "incidents", "description": "Outages."},
        {"name": "transitions", "description": "Changes of state."},
        {"name": "stats", "description": "Calls, failures and latencies over time."},
    ],
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENFORCE_NON_BLANK_FIELDS": True,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["fallback.api.schema.complete"],
}

# --- logs

configure_structlog()
LOGGING = logging_config(
    env.choice("LOG_FORMAT", "console", FORMATS), env.choice("LOG_LEVEL", "info", LEVELS)
)
