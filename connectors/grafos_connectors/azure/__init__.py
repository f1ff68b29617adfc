"""Microsoft Azure behind the contract. The SDK is imported by the modules here and by nothing outside."""
