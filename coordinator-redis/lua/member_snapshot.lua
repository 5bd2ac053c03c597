-- Reads all lives of a group.
return snapshot()
