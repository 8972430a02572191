"""Bar files of other programs: understood, and written into the store as files of the contract."""
