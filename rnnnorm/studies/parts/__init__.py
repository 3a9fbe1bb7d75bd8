"""What single studies, or a few of them, are made of: data, measurements, tables, panels."""
