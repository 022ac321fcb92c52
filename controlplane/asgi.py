"""The one door for uvicorn: HTTP to Django, WebSockets to the consumers in fallback/urls.py.

Who may open a socket, and from which origin, is decided in fallback/live/door.py.
"""

import os

import django
from channels.routing import ProtocolTypeRouter, URLRouter

from controlplane.database import limit_statements
from controlplane.descriptors import raise_descriptor_limit
from controlplane.handler import Handler

raise_descriptor_limit()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.settings")
limit_statements()
django.setup(set_prefix=False)
django_application = Handler()

# Consumers import models, which exist only once Django is set up by the line above.
from fallback.urls import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {"http": django_application, "websocket": URLRouter(websocket_urlpatterns)}
)
