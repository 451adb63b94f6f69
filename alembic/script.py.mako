"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Describe what changes and why."""
    ${upgrades if upgrades else "op.execute('')"}


def downgrade() -> None:
    """Return to the previous revision."""
    ${downgrades if downgrades else "op.execute('')"}
