"""What a student's folder carries so that other libraries open it; see ``docs/student-folder.md``.

``modeling_limbeck.py`` is copied into the folder as it stands and imports nothing of limbeck. Nothing here is imported
when limbeck embeds.
"""
