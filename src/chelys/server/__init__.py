"""``chelys serve``: speech over HTTP in OpenAI's form, over Wyoming, and on a page of its own.

Imported by that verb only. ``settings`` say how, ``app`` is what answers, ``scheduler`` owns the model.
"""
