"""What Pulumi starts for the project in the root."""

from grafos_stacks.pulumi.program import program

program()
