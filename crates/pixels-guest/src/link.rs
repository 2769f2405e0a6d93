//! Network interfaces of a pixel, over rtnetlink.
