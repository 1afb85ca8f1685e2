"""Where a link leads, told before it is followed; only the web and mail, only when a person asks."""

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices

from crane_app.media.markdown import is_safe, shown_address


def follow(address: str) -> bool:
    """Open an address outside; False when it is not one that a link may lead to."""
    return is_safe(address) and QDesktopServices.openUrl(QUrl(shown_address(address)))
