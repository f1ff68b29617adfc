"""What Pulumi starts for a project of the tests."""

from parts_program import parts_only

parts_only()
