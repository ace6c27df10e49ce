"""What browsers show and play in a page, by media type; it runs nothing and asks nobody for anything."""

from __future__ import annotations

DISPLAYABLE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp"})
FILMS = frozenset({"video/mp4", "video/webm", "video/ogg"})
SOUNDS = frozenset({"audio/mpeg", "audio/mp4", "audio/aac", "audio/ogg", "audio/webm", "audio/wav", "audio/flac"})
INLINE = DISPLAYABLE | FILMS | SOUNDS
