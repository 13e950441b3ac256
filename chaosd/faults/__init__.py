"""Every kind of fault, one file each; importing a file registers its class."""
