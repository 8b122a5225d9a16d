"""How good is speech? Measures by networks and by counting, as ``chelys eval`` takes them.

``sets`` has the texts, ``speaking`` makes clips of them or finds finished ones, ``measures`` names what is measured
of a clip (``words``, ``listening``, ``clvp_reader``, ``copies``), ``statistics`` says how sure that is, ``results``
shows it.
"""
