"""Does a model card hold together? Its tables, claims, licence, architecture and code, checked against each other."""
