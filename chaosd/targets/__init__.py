"""What a fault is aimed at: words such as ``container:api`` turned into identities."""
