"""What an exported wav2vec2 or HuBERT needs to run: torch and transformers, and nothing else of this project.

`workflows.export` copies the modules of this room into the folders that it writes, as they are; the rest of the project
imports the same code. So they import each other by relative names only, and raise ValueError.
"""
