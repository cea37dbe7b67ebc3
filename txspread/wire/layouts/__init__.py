"""The layouts of Spread 4, each declared once with ``construct``.

Nothing here is used for each message or packet: the codecs beside this package
work with :class:`struct.Struct` objects derived from these declarations when
they are imported (:mod:`txspread.wire.derive`).  Declarations keep what codecs
drop: pad bytes, unused array parts, bytes behind the NUL of a name.
"""
