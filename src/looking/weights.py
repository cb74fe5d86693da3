"""Whether pretrained weights can be fetched from here: asked once, with a short patience."""

import os
import urllib.error
import urllib.request

PATIENCE = 3.0


def can_fetch_weights() -> bool:
    """Whether the hub that SMP loads ImageNet weights from answers within three seconds."""
    if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return False
    url = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return True
    except (OSError, ValueError):
        return False
