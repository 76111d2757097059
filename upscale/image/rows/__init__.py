"""Pictures by rows, for what is too large to be whole in memory."""

from upscale.image.rows.read import open_rows
from upscale.image.rows.reader import RowReader
from upscale.image.rows.write import CAN_WRITE_ROWS, write_rows

__all__ = ["CAN_WRITE_ROWS", "RowReader", "open_rows", "write_rows"]
