"""A transactional batch: up to 100 operations on one partition, all or none."""

from typing import Any, Final

from local.cosmos.containers import Conditions, Container, Item, Key
from local.cosmos.errors import CosmosError

MOST_OPERATIONS: Final = 100
Result = dict[str, Any]


class _Failed(Exception):
    def __init__(self, index: int, error: CosmosError) -> None:
        super().__init__(index)
        self.index = index
        self.error = error


def execute(container: Container, key: Key, operations: Any) -> tuple[bool, list[Result]]:
    """Whether all of it was done, and a result an operation: where one failed, 424 for the others.

    Raises CosmosError 400 for what is no batch."""
    if not isinstance(operations, list) or not operations or not all(isinstance(one, dict) for one in operations):
        raise CosmosError(400, "A batch is a list of operations.")
    if len(operations) > MOST_OPERATIONS:
        raise CosmosError(400, f"Batch request has more operations than what is supported: {MOST_OPERATIONS}.")
    results: list[Result] = []
    try:
        with container.atomically():
            for index, operation in enumerate(operations):
                try:
                    results.append(_one(container, key, operation))
                except CosmosError as error:
                    raise _Failed(index, error) from None
    except _Failed as failed:
        others: Result = {"statusCode": 424, "requestCharge": 0.0}
        refused = [dict(others) for _ in operations]
        refused[failed.index] = {
            "statusCode": failed.error.status,
            "subStatusCode": failed.error.substatus,
            "requestCharge": 1.0,
            "message": failed.error.message,
        }
        return False, refused
    return True, results


def _one(container: Container, key: Key, operation: dict[str, Any]) -> Result:
    id, body = operation.get("id"), operation.get("resourceBody")
    conditions = Conditions(operation.get("ifMatch"), operation.get("ifNoneMatch"))
    match operation.get("operationType"):
        case "Create":
            return _result(201, container.create(key, _document(body)))
        case "Upsert":
            item, is_new = container.upsert(key, _document(body), conditions)
            return _result(201 if is_new else 200, item)
        case "Replace":
            return _result(200, container.replace(key, str(id), _document(body), conditions))
        case "Read":
            return _result(200, container.get(key, str(id)))
        case "Patch":
            return _result(200, container.patch(key, str(id), body, conditions))
        case "Delete":
            container.delete(key, str(id), conditions)
            return {"statusCode": 204, "requestCharge": 1.0}
    raise CosmosError(400, "The operation is not one of Create, Upsert, Replace, Read, Patch and Delete.")


def _document(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise CosmosError(400, "An item is an object.")
    return body


def _result(status: int, item: Item) -> Result:
    return {"statusCode": status, "requestCharge": 1.0, "eTag": item.etag, "resourceBody": item.document}
