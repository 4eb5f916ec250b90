"""Bodies of the users resource."""

from typing import Annotated

from pydantic import ConfigDict, Field

from conference.domain.consent import ConsentStatus, ConsentType
from conference.domain.meetings import User
from functions.schemas import EXAMPLE_ID, Id, Shape, Time


class ConsentIn(Shape):
    """A decision of the caller. `recording_ai` decides on both at once; `withdrawn` takes effect in a live meeting."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"meetingId": EXAMPLE_ID, "consentType": "recording_ai", "status": "accepted"}]}
    )

    meeting_id: Id
    consent_type: ConsentType
    status: ConsentStatus


class ConsentOut(Shape):
    """The entry in the log, and a token that names it for a join."""

    consent_id: Id
    consent_token: str
    expires_at: Time


class ProfileOut(Shape):
    """What the identity provider says of a user. E-mail is shown to the user and to admins of the tenant."""

    id: Id
    tenant_id: str
    display_name: str
    email: Annotated[str | None, Field(examples=["person@example.com"])]
    created_at: Time

    @classmethod
    def of(cls, user: User, *, with_email: bool) -> "ProfileOut":
        return cls.showing(user, email=user.email if with_email else None)
