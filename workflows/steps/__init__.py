"""The work behind the commands of `workflows`: these modules import torch, the commands do not until they have parsed
their arguments."""
