"""Rooms at other media providers: the room's id with the meeting, and the names of users there."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("meetings", sa.Column("provider_room", sa.Text(), nullable=True))
    op.create_table(
        "provider_identities",
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["meeting_id"], ["meetings.id"], name="fk_provider_identities_meeting_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("meeting_id", "user_id", name="pk_provider_identities"),
    )


def downgrade() -> None:
    op.drop_table("provider_identities")
    op.drop_column("meetings", "provider_room")
