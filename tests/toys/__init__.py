"""Three toy methods that prove the contract: each lives in its own file, and nothing else knows of them."""
