"""Who may do what to which meeting, for every resource folder: find it, judge it, or refuse.

Three circles: `visible` (the tenant, by knowing the id), `attended` (host, admin, or somebody who took part: history is
theirs) and `hosted` (host or admin of the tenant).
"""

from conference.domain.claims import Caller
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, UserId
from conference.domain.meetings import Meeting
from conference.domain.policies import may_host, may_see, participant_id_of
from functions.services import Services


async def visible(services: Services, caller: Caller, meeting_id: MeetingId) -> Meeting:
    """The meeting. Raises Refused("not-found") alike where there is none and where the caller may not see it."""
    meeting = await services.meetings.get(meeting_id)
    if meeting is None:
        raise Refused("not-found")
    decision = may_see(meeting, caller.user_id, caller.tenant_id, caller.is_admin)
    if isinstance(decision, Refused):
        raise decision
    return meeting


async def hosted(services: Services, caller: Caller, meeting_id: MeetingId) -> Meeting:
    """The meeting, for its host or an admin. Raises Refused: not-found, not-host."""
    meeting = await visible(services, caller, meeting_id)
    decision = may_host(meeting, caller.user_id, caller.tenant_id, caller.is_admin)
    if isinstance(decision, Refused):
        raise decision
    return meeting


def is_hosting(meeting: Meeting, caller: Caller) -> bool:
    """True for the host and admins of the tenant."""
    return not isinstance(may_host(meeting, caller.user_id, caller.tenant_id, caller.is_admin), Refused)


async def attended(services: Services, caller: Caller, meeting_id: MeetingId) -> Meeting:
    """The meeting, for those whose history it is. Raises Refused: not-found, not-a-participant."""
    meeting = await visible(services, caller, meeting_id)
    if not is_hosting(meeting, caller):
        first_stay = participant_id_of(meeting_id, caller.user_id, 1)
        if await services.meetings.participant(meeting_id, first_stay) is None:
            raise Refused("not-a-participant")
    return meeting


async def acting_for(services: Services, caller: Caller, user_id: UserId) -> UserId:
    """`user_id` where the caller may act as them: the caller, or a user of the tenant whose admin the caller is.

    Raises Refused("forbidden"), also for users who do not exist: an admin learns nothing of other tenants."""
    if user_id == caller.user_id:
        return user_id
    user = await services.users.get(user_id) if caller.is_admin else None
    if user is None or user.tenant_id != caller.tenant_id:
        raise Refused("forbidden")
    return user_id
