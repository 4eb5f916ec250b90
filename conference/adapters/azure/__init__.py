"""What every adapter of an Azure service shares: the one credential, how often to try again, and who builds what."""
