"""What every adapter of an Azure service shares: the one credential, what a failed call means, and who builds what."""
