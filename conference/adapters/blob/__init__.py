"""Azure Blob storage: recordings, and small documents that change under an ETag."""

from conference.adapters.blob.files import BlobMediaFiles

__all__ = ["BlobMediaFiles"]
