"""Training loops that take turns, ours and other people's: each is run as a script, with one JSON argument.

    {"backbone": {"name": …, "settings": …}, "method": …, "settings": …, "vocabulary": …, "precision": …,
     "training": …, "lengths": […], "tokens": […], "threads": …, "device": …, "processor_time": …}

All but `ours.py` ignore the method, and take of `training` what they have. The scripts import one another by file, not
as a package, since `ours.py` also runs on the code of another commit.
"""
