"""The dashboard shows every series."""

from dashboard import dashboard, query

from drawwell.observe.link_series import EVERY_SERIES


def test_every_series_has_one_panel() -> None:
    """No series is left out, and none is shown twice."""
    asked = [panel["targets"][0]["expr"] for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert sorted(asked) == sorted(query(each) for each in EVERY_SERIES)


def test_panels_do_not_overlap() -> None:
    """Each panel has a separate place on the page."""
    taken = [panel["gridPos"] for panel in dashboard()["panels"]]
    cells = [
        (column, row)
        for place in taken
        for column in range(place["x"], place["x"] + place["w"])
        for row in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
