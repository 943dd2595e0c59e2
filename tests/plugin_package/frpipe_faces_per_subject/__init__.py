"""A package that is no part of frpipe and brings it a job."""
