"""JSON in and out of typed records, with serde_json's rules and words.

Clients of Firecracker match on the messages its JSON library gives, so this is that library's
behaviour, not only its grammar: errors come in the order in which a streaming reader meets them,
carry a line and a column, and name what was expected.

``reader``  tokens: white space, strings, numbers, and where an error is
``schema``  what a type accepts: integers, options, enumerations, records
``value``   JSON of any shape, for metadata
``writer``  compact JSON out
``text``    floats and quoted strings as Rust prints them
"""
