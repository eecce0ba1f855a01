"""Events as bytes: schemas, frozen in files and compared with them, and the codec."""
