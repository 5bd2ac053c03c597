-- Which state a group is in.
return { versions() }
