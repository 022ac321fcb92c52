"""The four roles as groups; what each may do, `fallback.roles` says after every `migrate`."""

from django.db import migrations

ROLES = ["viewer", "operator", "editor", "owner"]


def make_groups(apps, schema_editor):
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    for name in ROLES:
        groups.get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("fallback", "0007_configuration_changes"),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="incident",
            options={
                "ordering": ["-opened_at", "-id"],
                "permissions": [("acknowledge_incident", "Can acknowledge incidents")],
            },
        ),
        # Undone, the groups stay: they hold people.
        migrations.RunPython(make_groups, migrations.RunPython.noop),
    ]
