"""What `grafos doctor` looks at, one module for each subject; each gives ``Finding``s and changes nothing unasked."""
