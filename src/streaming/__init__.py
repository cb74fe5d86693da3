"""Files of a competition in shards: a folder's or an object store's, read by byte ranges."""
