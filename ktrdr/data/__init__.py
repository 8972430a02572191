"""What people start and import: the programs `ib_*`, and `data_manager` to read bars."""
