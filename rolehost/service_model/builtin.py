"""The service that runs where no definition is found: thumbnails, as a definition file would say it."""

from __future__ import annotations

BUILT_IN = """\
[service]
name = "thumbnails"

[roles.ThumbnailFrontend]
entry_point = "rolehost.frontend.role:ThumbnailFrontend"

[roles.ThumbnailFrontend.endpoints.Http]
protocol = "http"
port = 8080

[roles.ThumbnailBackend]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"

[roles.ThumbnailBackend.local_resources.Scratch]
size_in_mb = 2048
clean_on_role_recycle = true
"""
