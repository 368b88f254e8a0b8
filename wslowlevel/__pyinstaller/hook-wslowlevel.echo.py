"""Add the page that `wslowlevel echo` serves."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("wslowlevel", includes=["echo.html"])
