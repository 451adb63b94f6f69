"""Tell who asked for it that published figures were revised: one event for each enterprise and run.

Only figures that had been told otherwise count. A figure is told when it is published, one that came late at noon of
the day after: a history that is delivered for the first time, in however many runs, leaves revisions but no event.
"""

from datetime import datetime

from sqlalchemy import Connection

from app.db import deliveries, revisions
from app.domain import notice

KIND = "figure.revised"


def revised(connection: Connection, now: datetime) -> int:
    """Write the events of this transaction's revisions; return how many. Endpoints ask for them by kind figure.*."""
    found = revisions.of_this_run(connection)
    for one in found:
        data = {
            "enterprise_id": one.enterprise_id,
            "figures": one.figures,
            "kinds": list(one.kinds),
            "grains": list(one.grains),
            "first_period": one.first_period.isoformat(),
            "last_period": one.last_period.isoformat(),
            "causes": list(one.causes),
        }
        deliveries.write_event(
            connection,
            kind=KIND,
            alert_id=None,
            district_code=one.district_code,
            enterprise_id=one.enterprise_id,
            payload=notice.body(KIND, data, now),
            now=now,
        )
    return len(found)
