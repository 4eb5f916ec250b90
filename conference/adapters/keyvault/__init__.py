"""Port `KeyRing` in Azure Key Vault."""

from conference.adapters.keyvault.ring import VaultKeyRing

__all__ = ["VaultKeyRing"]
