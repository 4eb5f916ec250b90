"""HTTP shape of the health resource, at the app's root and under /v1; open to everybody."""

from fastapi import APIRouter, Request, Response

from functions.health import use_cases
from functions.health.schemas import HealthOut, ReadyOut
from functions.services import VERSION

router = APIRouter(tags=["health"])


@router.get("/health", operation_id="getHealth")
@router.get("/v1/health", include_in_schema=False)
async def health() -> HealthOut:
    """The process answers; nothing else is asked."""
    return HealthOut(status="ok", version=VERSION)


@router.get("/ready", operation_id="getReady", responses={503: {"model": ReadyOut, "description": "Not ready"}})
@router.get("/v1/ready", include_in_schema=False)
async def ready(request: Request, response: Response) -> ReadyOut:
    """Whether the store answers (else 503), and whether the directory of live rooms does."""
    known = await use_cases.readiness(request.app.state.provider)
    response.status_code = 200 if known.store else 503
    return ReadyOut(
        status="ready" if known.store else "not-ready",
        store="ok" if known.store else "unavailable",
        directory="ok" if known.directory else "unavailable",
    )
