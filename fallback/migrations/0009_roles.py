"""The four roles as groups; what each may do, `fallback.roles` says after every `migrate`.

And the cause of what nobody knows any more, which history wrote already.
"""

from django.db import migrations, models

CAUSES = [
    ("failure_threshold", "failure threshold"),
    ("failure_rate", "failure rate"),
    ("slow_rate", "slow rate"),
    ("trip_at_once", "trip at once"),
    ("time_up", "time up"),
    ("probe_success", "probe success"),
    ("probe_failure", "probe failure"),
    ("override", "override"),
    ("override_cleared", "override cleared"),
    ("override_ended", "override ended"),
    ("reset", "reset"),
    ("policy", "policy"),
    ("unknown", "unknown"),
]
ROLES = ["viewer", "operator", "editor", "owner"]


def make_groups(apps, schema_editor):
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    for name in ROLES:
        groups.get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("fallback", "0008_rehearsals"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="incident",
            options={
                "ordering": ["-opened_at", "-id"],
                "permissions": [("acknowledge_incident", "Can acknowledge incidents")],
            },
        ),
        *(
            migrations.AlterField(
                model_name=model,
                name=name,
                field=models.CharField(max_length=32, choices=CAUSES, **more),
            )
            for model, name, more in [
                ("incident", "cause", {"help_text": "What opened the breaker."}),
                (
                    "incident",
                    "closing_cause",
                    {"blank": True, "help_text": "What closed the breaker."},
                ),
                ("transition", "cause", {"blank": True}),
            ]
        ),
        # Undone, the groups stay: they hold people.
        migrations.RunPython(make_groups, migrations.RunPython.noop),
    ]
