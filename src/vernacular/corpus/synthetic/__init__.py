"""The demo's data: documents, conversations and test items in three languages, made from CLDR facts and a seed."""
