"""What Pulumi starts for a project of the tests."""

from pulumi_ground import parts_only

parts_only()
