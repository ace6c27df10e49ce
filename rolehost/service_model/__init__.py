"""What is deployed: the service definition, read, validated and overlaid with the environment's settings."""

from __future__ import annotations

from rolehost.service_model.builtin import BUILT_IN
from rolehost.service_model.loading import DEFINITION_FILE, load
from rolehost.service_model.model import InputEndpoint, LocalStorage, RoleModel, ServiceModel

__all__ = ["BUILT_IN", "DEFINITION_FILE", "InputEndpoint", "LocalStorage", "RoleModel", "ServiceModel", "load"]
